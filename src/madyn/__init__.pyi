from . import analysis as analysis
from . import checking as checking
from . import curves as curves
from . import dataset as dataset
from . import effects as effects
from . import intervention as intervention
from . import lab as lab
from . import massive as massive
from . import measurement as measurement
from . import monitor as monitor
from . import prediction as prediction
from . import publish as publish
from . import quantization as quantization
from . import suites as suites
from . import sweep as sweep
from .analysis.comparison import compare as compare
from .analysis.fitting import fit_dataset as fit_dataset
from .analysis.forecasting import forecast as forecast
from .architecture import Architecture as Architecture
from .curves.bayes.posteriors import posterior as posterior
from .curves.fitting.fits import fit_curves as fit_curves
from .dataset.view import open_dataset as open_dataset
from .errors import MadynError as MadynError
from .figures.draw import draw_figures as draw_figures
from .intervention.editing import intervene as intervene
from .intervention.finding import massive_dimensions as massive_dimensions
from .lab.running import run_suite as run_suite
from .measurement.forward import measure as measure
from .monitor.watched import Monitor as Monitor
from .prediction.design_search import design as design
from .prediction.evaluation import evaluate as evaluate
from .prediction.predictor import Predictor as Predictor
from .suites import PYTHIA as PYTHIA
from .sweep.tracing import trace as trace

__version__: str
__all__: list[str]
