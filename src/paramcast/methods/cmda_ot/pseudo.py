"""Pseudo-labels of the target: spectral clustering, hierarchical optimal transport, the clients' votes.

Hierarchical transport (HOT-DA, El Hamri, Bennani, Falih, Ahaggach, arXiv 2112.02073): the cost of matching
class c to cluster k is their Wasserstein distance. A plan between classes and clusters is the outer level.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence

import numpy as np
import ot
from scipy.sparse import csr_matrix, diags
from sklearn.cluster import SpectralClustering
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from paramcast.methods.cmda_ot.messages import Evidence, Guidance

LARGEST_SPECTRAL = 2000
"""Largest number of samples for spectral clustering; others get the cluster of their nearest neighbor."""
LARGEST_GROUP = 50
"""Largest number of samples of a class or cluster in a Wasserstein distance."""
NEIGHBOURS = 10
SPREAD, SPREADINGS = 0.5, 10
"""Share that a sample takes from its neighbors, and the number of repetitions."""
TRUST = 0.1
"""A client's weight falls by a factor e if its plan costs this share of the mean more than the cheapest."""


def spectral_clusters(target: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Cluster the target on its nearest-neighbor graph.

    Args:
        target: (N, D) float64.
        count: Number of clusters >= 1; it is reduced to a third of the number of samples if that is lower.
        rng: Draws the samples and the solver's start.

    Returns:
        (N,) int, clusters numbered from 0 without gaps.
    """
    seen = rng.permutation(len(target))[:LARGEST_SPECTRAL]
    count = min(count, len(seen) // 3)
    if count < 2:
        return np.zeros(len(target), dtype=int)
    solver = SpectralClustering(
        count,
        affinity="nearest_neighbors",
        n_neighbors=min(NEIGHBOURS, len(seen) - 1),
        random_state=int(rng.integers(2**31)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # well separated clusters give a graph with several parts
        labels = solver.fit_predict(target[seen])
    if len(seen) < len(target):
        labels = KNeighborsClassifier(1).fit(target[seen], labels).predict(target)
    else:
        labels = labels[np.argsort(seen)]
    return np.unique(labels, return_inverse=True)[1]


def class_distances(
    source: np.ndarray,
    labels: np.ndarray,
    target: np.ndarray,
    clusters: np.ndarray,
    classes: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the Wasserstein-2 distance of each class of a source to each cluster of the target.

    Args:
        source: (n, D) float64.
        labels: (n,) int in [0, classes).
        target: (N, D) float64.
        clusters: (N,) int in [0, K).
        classes: C.
        rng: Draws the samples of large groups.

    Returns:
        present (C,) bool, and distances (C, K) float64, 0 where a class is not present. With a single cluster
        all distances are 0, since there is nothing to choose.
    """
    present = np.bincount(labels, minlength=classes) > 0
    distances = np.zeros((classes, clusters.max() + 1))
    if distances.shape[1] == 1:
        return present, distances

    def some(group: np.ndarray) -> np.ndarray:
        return group[rng.permutation(len(group))[:LARGEST_GROUP]]

    groups = [some(target[clusters == k]) for k in range(distances.shape[1])]
    for c in np.flatnonzero(present):
        of_class = some(source[labels == c])
        distances[c] = [np.sqrt(max(ot.emd2([], [], ot.dist(of_class, group)), 0)) for group in groups]
    return present, distances


def match(evidence: Sequence[Evidence], sizes: np.ndarray, reg: float = 0.05) -> np.ndarray:
    """Compute the outer plan, from the distances averaged over the clients that have a class.

    Args:
        evidence: Of at least one client.
        sizes: (K,) number of samples of each cluster > 0.
        reg: Weight of the entropy, where the mean excess cost is 1; classes have equal mass.

    Returns:
        (K, C) float64, the class shares of each cluster; 0 for a class that no client has.
    """
    counts: np.ndarray = np.sum([each.present for each in evidence], axis=0)
    known = np.flatnonzero(counts)
    cost = np.sum([each.distances for each in evidence], axis=0)[known] / counts[known, None]
    # The distance that a cluster has to every class has no information; the same holds for a class.
    cost = cost - cost.min(0)
    cost /= max(float(cost.mean()), 1e-300)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        coupling = ot.bregman.sinkhorn_log(
            np.full(len(known), 1 / len(known)), sizes / sizes.sum(), cost, reg, numItermax=1000
        )
    shares = np.zeros((len(sizes), len(counts)))
    shares[:, known] = (coupling / coupling.sum(0)).T
    return shares


def beliefs(
    evidence: Sequence[Evidence],
    clusters: np.ndarray,
    weight: float,
    target: np.ndarray,
    together: np.ndarray | None = None,
) -> np.ndarray:
    """Combine the votes of all clients for the class of each target sample, and spread them along its graph.

    The weights of plans and of models depend on how well the clients agree in them: the errors of clients are
    independent, so agreement shows a property of the target. A client with more samples has more weight, as
    in federated averaging. A client whose source is further from the target has less weight. A client has no
    weight for a class that it lacks. Each sample takes over a share of the votes of its neighbors (Zhou et
    al., NIPS 2003, "Learning with Local and Global Consistency").

    Args:
        evidence: Of at least one client.
        clusters: (N,) int in [0, K).
        weight: Weight in [0, 1] of the cluster's class shares; the clients' votes have weight 1 - weight.
        target: (N, D) float64, aligned.
        together: (N, C) float64, predictions of the clients' common model once it exists. They then are half
            of the votes of models.

    Returns:
        (N, C) float64, rows summing to 1.
    """
    plans, models = [each.plan for each in evidence], [each.model for each in evidence]
    share = plan_share(plans, models)
    trust = trusts(evidence)
    modelled = _voted(models, trust)
    if together is not None:
        modelled = (modelled + together) / 2
    votes = share * _voted(plans, trust) + (1 - share) * modelled
    if weight:
        votes = (1 - weight) * votes + weight * match(evidence, np.bincount(clusters))[clusters]
    return spread(votes, target)


def trusts(evidence: Sequence[Evidence]) -> np.ndarray:
    """Compute (clients, C) float64, the weight of each client for each class; 0 for a class that it lacks."""
    costs = np.array([each.cost for each in evidence])
    trust = np.exp(-(costs - costs.min()) / max(TRUST * float(costs.mean()), 1e-300))
    counts = trust * [each.samples for each in evidence]
    weights: np.ndarray = counts[:, None] * np.array([each.present for each in evidence])
    return weights


def _voted(votes: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Average the clients' votes of one kind by their weights: (N, C) float64; rows sum to 1."""
    mean = np.einsum("ec,enc->nc", weights, votes) / np.maximum(weights.sum(0), 1e-300)
    shares: np.ndarray = mean / np.maximum(mean.sum(1, keepdims=True), 1e-300)
    return shares


def plan_share(plans: Sequence[np.ndarray], models: Sequence[np.ndarray]) -> float:
    """Compute the weight of the plans beside the models: their share in [0, 1] of the squared reliabilities.

    Args:
        plans: (N, C) votes of each client.
        models: (N, C) votes of each client.
    """
    squares = [reliability(each) ** 2 for each in (plans, models)]
    return squares[0] / sum(squares)


def reliability(votes: Sequence[np.ndarray]) -> float:
    """Compute the reliability in (0, 1] of the clients' mean vote from their agreement (Spearman-Brown).

    It is n k / (1 + (n - 1) k), k being the agreement, at least 0.01, and n the number of clients.
    """
    count, kappa = len(votes), max(agreement(votes), 0.01)
    return count * kappa / (1 + (count - 1) * kappa)


def agreement(votes: Sequence[np.ndarray]) -> float:
    """Compute Cohen's kappa between the classes of two clients, averaged over all pairs; 1 for one client.

    The class of a client is its most probable one.
    """
    best = [np.eye(each.shape[1])[each.argmax(1)] for each in votes]
    kappas = []
    for first, second in itertools.combinations(best, 2):
        chance = float(first.mean(0) @ second.mean(0))
        kappas.append(((first * second).sum(1).mean() - chance) / max(1 - chance, 1e-12))
    return float(np.mean(kappas)) if kappas else 1.0


def spread(belief: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mix the votes (N, C) float64 of each sample with those of its neighbors; rows sum to 1."""
    if len(target) <= NEIGHBOURS:
        return belief
    graph = _graph(target)
    spread = belief
    for _ in range(SPREADINGS):
        spread = SPREAD * (graph @ spread) + (1 - SPREAD) * belief
    shares: np.ndarray = spread / spread.sum(1, keepdims=True)
    return shares


def _graph(target: np.ndarray) -> csr_matrix:
    """Compute the (N, N) affinities of nearest neighbors, normalized on both sides."""
    distances, rows = NearestNeighbors(n_neighbors=NEIGHBOURS).fit(target).kneighbors()
    affinity = np.exp(-(distances**2) / max(float(np.median(distances[:, -1] ** 2)), 1e-300))
    starts = np.arange(0, affinity.size + 1, NEIGHBOURS)
    one_way = csr_matrix((affinity.ravel(), rows.ravel(), starts), shape=(len(target), len(target)))
    both = one_way.maximum(one_way.T)
    scale = diags(1 / np.sqrt(np.maximum(np.asarray(both.sum(1)).ravel(), 1e-300)))
    return csr_matrix(scale @ both @ scale)


def guidance(belief: np.ndarray, share: float) -> Guidance:
    """Pseudo-label the target and keep the most confident samples of every class.

    Args:
        belief: (N, C) float64.
        share: In (0, 1]. Of the samples with the same pseudo-label, this share with the widest margin between
            the two best classes is kept, at least one sample.
    """
    labels = belief.argmax(1)
    best = np.sort(np.pad(belief, ((0, 0), (1, 0))), axis=1)
    margins = best[:, -1] - best[:, -2]
    rows: list[int] = []
    for c in np.unique(labels):
        members = np.flatnonzero(labels == c)
        surest = members[np.argsort(-margins[members], kind="stable")]
        rows += surest[: max(1, round(share * len(members)))].tolist()
    order = np.sort(rows)
    return Guidance(order, labels[order])
