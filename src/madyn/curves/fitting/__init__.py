"""Fitting curves to series: the search for the global optimum, the published search, and what a fit says of itself."""
