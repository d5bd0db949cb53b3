"""What prevents massive activations: models that differ in one remedy each, on one measure and at equal loss.

study_control       every remedy of a family against its plain models: `Control`
conclusion          what one remedy's row says, in a sentence
reported_effect     what its authors report
measure_throughput  how fast each remedy trains beside the plain model, on this machine
"""

from madyn.control.conclusions import conclusion
from madyn.control.reported import reported_effect
from madyn.control.study import Control, study_control
from madyn.control.throughput import measure_throughput

__all__ = ["Control", "conclusion", "measure_throughput", "reported_effect", "study_control"]
