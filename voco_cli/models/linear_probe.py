"""What frozen features tell without fine-tuning: a linear model, the nearest neighbours, and retrieval.

Legend: N samples, E features, K classes, X, Y, Z voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]

PENALTY = 1e-3
"""Half of this times the sum of squared weights is added to the mean cross entropy, for standardised features."""
MOST_ITERATIONS = 300
LEAST_SD = 1e-6


@dataclass(frozen=True)
class LinearProbe:
    """A multinomial logistic regression.

    Attributes:
        weights_KE, bias_K: of raw features, standardisation included.
    """

    weights_KE: Tensor
    bias_K: Tensor

    def logits(self, features_NE: Tensor) -> Tensor:
        """Return logits_NK."""
        return features_NE.to(self.weights_KE) @ self.weights_KE.T + self.bias_K

    def logits_of_maps(self, maps: Sequence[Tensor], size: Sequence[int]) -> Tensor:
        """Return logits_KXYZ of feature maps, without ever making all features of all voxels.

        A linear function of interpolated features is the interpolation of the linear function, so each level is
        weighted at its own size first.

        Args:
            maps: maps_1WXYZ of each level; the widths W sum to E.
            size: of the volume, X, Y, Z.
        """
        widths = [level.shape[1] for level in maps]
        total = self.bias_K[:, None, None, None].expand(-1, *size)
        for level, part_KW in zip(maps, self.weights_KE.split(widths, dim=1), strict=True):
            coarse_1K = torch.einsum("kw,nwxyz->nkxyz", part_KW, level.to(part_KW))
            total = total + F.interpolate(coarse_1K, size=tuple(size), mode="trilinear", align_corners=False)[0]
        return total


def fit_linear(features_NE: Tensor, classes_N: Tensor, num_classes: int, prior_K: Tensor | None = None) -> LinearProbe:
    """Fit a multinomial logistic regression by L-BFGS; features that never vary have no weight.

    Args:
        classes_N: whole numbers below ``num_classes``.
        prior_K: shares of the classes where it is used; those of the samples if not given. The bias moves by the
            logarithm of the ratio (King and Zeng, "Logistic regression in rare events data", 2001, eq. 7).
    Raises:
        ValueError: samples of fewer than two classes.
    """
    counts_K = torch.bincount(classes_N, minlength=num_classes).double()
    if int((counts_K > 0).sum()) < 2:
        raise ValueError("samples of two classes at least are needed")
    features_NE = features_NE.double()
    mean_E, sd_E = features_NE.mean(0), features_NE.std(0, correction=0)
    varies_E = sd_E > LEAST_SD
    scale_E = torch.where(varies_E, 1 / sd_E.clamp_min(LEAST_SD), torch.zeros_like(sd_E))
    standard_NE = (features_NE - mean_E) * scale_E
    weights_KE = torch.zeros(num_classes, features_NE.shape[1], dtype=torch.float64, requires_grad=True)
    bias_K = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weights_KE, bias_K], max_iter=MOST_ITERATIONS, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(standard_NE @ weights_KE.T + bias_K, classes_N)
        loss = loss + PENALTY / 2 * weights_KE.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    raw_KE = weights_KE.detach() * scale_E
    raw_K = bias_K.detach() - raw_KE @ mean_E
    if prior_K is not None:
        there_K = counts_K > 0
        shift_K = torch.log(prior_K.double().clamp_min(1e-12)) - torch.log((counts_K / counts_K.sum()).clamp_min(1e-12))
        raw_K = torch.where(there_K, raw_K + shift_K, raw_K.new_tensor(-1e9))  # a class without samples never wins
    return LinearProbe(raw_KE, raw_K)


def nearest_classes(features_NE: Tensor, known_ME: Tensor, classes_M: Tensor, num_classes: int, k: int = 5) -> Tensor:
    """Return shares_NK of each class among the ``k`` nearest known samples, by cosine of standardised features.

    Args:
        features_NE: asked for.
        known_ME, classes_M: M samples whose classes are known; fewer than ``k`` all count.
    """
    mean_E, sd_E = known_ME.double().mean(0), known_ME.double().std(0, correction=0).clamp_min(LEAST_SD)
    asked, known = (F.normalize((one.double() - mean_E) / sd_E, dim=1) for one in (features_NE, known_ME))
    nearest_NJ = (asked @ known.T).topk(min(k, len(known_ME)), dim=1).indices
    return F.one_hot(classes_M[nearest_NJ], num_classes).double().mean(1)


def retrieved(features_NE: Tensor, wanted_N: Sequence[int], apart_N: Sequence[int]) -> Floats:
    """Return 1 where the nearest other sample by cosine has what is wanted, else 0; NaN where none could be asked.

    Args:
        features_NE: are standardised over all samples first.
        wanted_N: what the nearest is to share, such as the place in the body.
        apart_N: samples with the same number are not compared, such as crops of one patient.
    """
    values = features_NE.double()
    values = F.normalize((values - values.mean(0)) / values.std(0, correction=0).clamp_min(LEAST_SD), dim=1)
    cosines_NN = values @ values.T
    apart, wanted = torch.as_tensor(apart_N), torch.as_tensor(wanted_N)
    cosines_NN[apart[:, None] == apart[None, :]] = -torch.inf
    found_N = (wanted[cosines_NN.argmax(1)] == wanted).double()
    found_N[cosines_NN.max(1).values == -torch.inf] = torch.nan
    return np.asarray(found_N)


def dice_by_class(predicted: NDArray[np.integer], truth: NDArray[np.integer], num_classes: int, ignored: int) -> Floats:
    """Return Dice of each class but the background, NaN where the truth has none of it.

    Args:
        predicted, truth: class of each voxel, 0 for background.
        num_classes: background among them.
        ignored: value of voxels in the truth that do not count.
    """
    counted = truth != ignored
    pairs = np.bincount(
        truth[counted].astype(np.intp) * num_classes + predicted[counted], minlength=num_classes * num_classes
    ).reshape(num_classes, num_classes)
    both, sizes = np.diag(pairs)[1:], pairs.sum(0)[1:] + pairs.sum(1)[1:]
    return np.where(pairs.sum(1)[1:] > 0, 2 * both / np.maximum(sizes, 1), np.nan)


def sample_maps(maps: Sequence[Tensor], places_P3: Tensor, size: Sequence[int]) -> Tensor:
    """Return features_PE of voxels: every level's map, interpolated there as `LinearProbe.logits_of_maps` does.

    Args:
        maps: maps_1WXYZ of each level of a volume.
        places_P3: voxels of the volume, x, y, z.
        size: of the volume, X, Y, Z.
    """
    edges_3 = torch.as_tensor(size, dtype=torch.float64)
    unit_P3 = (2 * (places_P3.double() + 0.5) / edges_3 - 1).flip(1)  # torch's grids name the last axis first
    columns = []
    for level in maps:
        grid = unit_P3[None, :, None, None].to(level)
        found = F.grid_sample(level, grid, mode="bilinear", padding_mode="border", align_corners=False)
        columns.append(found[0, :, :, 0, 0].T)
    return torch.cat(columns, dim=1)
