"""Quality report of an item index: figures as JSON, and one HTML page that explains them."""

from recbole_lcrec.index.report.page import write_report
from recbole_lcrec.index.report.quality import index_quality

__all__ = ["index_quality", "write_report"]
