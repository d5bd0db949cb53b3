from .attention import attention_shares as attention_shares
from .decomposition import decompose as decompose
from .decomposition import writers as writers
from .editing import intervene as intervene
from .experiment import Effects as Effects
from .experiment import measure_effects as measure_effects
from .finding import features_of as features_of
from .finding import massive_dimensions as massive_dimensions
from .indicator import indicators as indicators
from .origin import Origin as Origin
from .origin import find_origin as find_origin
from .study import follow_effects as follow_effects
from .study import read_study as read_study
from .super_weights import compare_zeroing as compare_zeroing
from .super_weights import super_weights as super_weights
from .super_weights import zeroed_weights as zeroed_weights

__all__: list[str]
