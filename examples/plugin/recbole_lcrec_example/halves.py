"""A quantizer: paths by rank along one principal axis of the embeddings, so that neighbours share their codes."""

import numpy as np

from recbole_lcrec.quantizer.random_paths import FixedPaths


class Halves(FixedPaths):
    """Cuts the items into equal parts level after level; its paths are distinct and belong to those items."""

    needs_embeddings = True

    @classmethod
    def fit(cls, inputs, settings, *, seed, device, show_progress):
        """Return the quantizer and its report; option ``halves_axis`` chooses the axis."""
        centred = inputs.embeddings - inputs.embeddings.mean(axis=0)
        axes = np.linalg.svd(centred, full_matrices=False)[2]
        along = centred @ axes[settings.own["halves_axis"] % len(axes)]
        rank = np.argsort(np.argsort(along, kind="stable"))
        paths = int(np.prod(settings.level_sizes))
        place = rank * paths // len(rank)  # distinct: there are no more items than paths
        return cls(settings, np.stack(np.unravel_index(place, settings.level_sizes), axis=1).astype(np.int64)), {}
