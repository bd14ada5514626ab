"""The browsable page of evidence: scores, plots, and every sample with its video, spans and masks."""

from evqa.view.page import write_page
from evqa.view.plots import Curve

__all__ = ["Curve", "write_page"]
