"""What massive activations cost when hidden states are quantized: simulated on a model, and estimated from statistics.

    effective_bits    int8 with one scale a tensor, from the largest value and the median of any kind of statistics
    zeroed_share      the share of the values that becomes zero there
    headroom          factors of two to float16's largest number
    estimate_dataset  the three of every model and layer of a dataset; `worst_layers` of them, a row a model
    quantization_costs, costs_of_model
                      a checkpoint's hidden states rounded in every scheme, and what the model then predicts: `Costs`

The estimates need no torch; a model does.
"""

from madyn.quantization.costs import KEEP, Costs, costs_of_model, quantization_costs
from madyn.quantization.datasets import estimate_dataset, worst_layers
from madyn.quantization.estimate import effective_bits, headroom, zeroed_share

__all__ = [
    "KEEP",
    "Costs",
    "costs_of_model",
    "effective_bits",
    "estimate_dataset",
    "headroom",
    "quantization_costs",
    "worst_layers",
    "zeroed_share",
]
