from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .fitting import fit_dataset as fit_dataset
from .forecasting import forecast as forecast
