"""From a configuration to an experiment, and what can be done with one: run, load, evaluate, resume, recommend."""

from recbole_lcrec.utils.importing import import_metrics, importing

with importing():
    import_metrics()
    from recbole_lcrec.experiment.building import build, load_experiment
    from recbole_lcrec.experiment.experiment import Experiment
    from recbole_lcrec.experiment.outputs import metrics_table
    from recbole_lcrec.experiment.running import evaluate, run

__all__ = ["Experiment", "build", "evaluate", "load_experiment", "metrics_table", "run"]
