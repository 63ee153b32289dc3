"""What trials are held of: the tiny pipeline and the slides of the pipelines' tests."""

from tests.pipelines.conftest import _tiny_has_a_name, dataset, pipeline_folder, slides, tiny

__all__ = ["_tiny_has_a_name", "dataset", "pipeline_folder", "slides", "tiny"]
