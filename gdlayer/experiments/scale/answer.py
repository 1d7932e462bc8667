"""The answer on scale generalisation, written by hand."""

from gdlayer.experiments.scale import EXPERIMENT
from gdlayer.experiments.scale.claims import CLAIMED, change_at, with_changes
from gdlayer.experiments.scale.layers import CHANNELS, LAYERS
from gdlayer.experiments.scale.page import TRAINED, metric_at, numbers
from gdlayer.report.answers import Numbers, Sentence, between, count, points
from gdlayer.report.claims import ABOVE
from gdlayer.report.loaded import Loaded


def sentences(loaded: Loaded) -> list[Sentence]:
    """Claim, finding, price."""
    record = Numbers(with_changes(loaded), metric_at(TRAINED))
    (n,) = numbers(loaded)
    others = [name for name in LAYERS if name != CHANNELS]
    changes = [change_at(size) for size in CLAIMED]
    better = [case for name in others for case in record.across(CHANNELS, name, n_train=[n], metric=changes)]
    own = [record.mean(CHANNELS, n_train=n, metric=metric) for metric in changes]
    theirs = {name: [record.mean(name, n_train=n, metric=metric) for metric in changes] for name in others}
    accuracy = {name: record.mean(name, n_train=n) for name in LAYERS}
    return [
        Sentence(
            "The paper says nothing of images of another size; Lindeberg claims that networks of scale channels, whose"
            " Gaussians grow with the image, keep their accuracy there."
        ),
        Sentence(
            f"They lose far less: {_points(own[0])} and {_points(own[-1])} points at half and at double the size, where"
            f" the paper's layer loses {_points(theirs['ours'][0])} and {_points(theirs['ours'][-1])} and free filters"
            f" {_points(theirs['free-form'][0])} and {_points(theirs['free-form'][-1])}; scale channels are ahead in"
            f" {count(better, ABOVE)} of {len(better)} comparisons.",
            count(better, ABOVE) == len(better) and max(own[0], own[-1]) < 0,
        ),
        Sentence(
            "A trained scale is no help by itself, since it is that of the training images: the paper's layer and N-Jet"
            f" lose {between((-theirs[name][0] for name in ('ours', 'n-jet')), points)} points at half the size, free"
            f" 3×3 filters {_points(theirs['free-form'][0])}.",
            min(-theirs[name][0] for name in ("ours", "n-jet")) > -theirs["free-form"][0],
        ),
        Sentence(
            f"The price is paid at the size of training: {accuracy[CHANNELS]:.1f} % with scale channels,"
            f" {accuracy['ours']:.1f} % with the paper's layer, {accuracy['free-form']:.1f} % with free filters, and"
            f" {len(EXPERIMENT.choices['scales']['value'])} evaluations of the network instead of one.",
            accuracy["ours"] > accuracy[CHANNELS] > accuracy["free-form"],
        ),
    ]


def _points(change: float) -> str:
    return points(-change)
