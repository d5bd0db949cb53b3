from .editing import intervene as intervene
from .experiment import Effects as Effects
from .experiment import measure_effects as measure_effects
from .finding import features_of as features_of
from .finding import massive_dimensions as massive_dimensions

__all__: list[str]
