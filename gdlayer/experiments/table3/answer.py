"""The answer to Table 3, written by hand."""

from collections.abc import Sequence

from gdlayer.datasets.nuclei import MONUSEG, TNBC_DERIVED
from gdlayer.experiments.table3.trial import Table3Trial
from gdlayer.report.answers import Numbers, Sentence, all_of, between, count, minus, points
from gdlayer.report.claims import ABOVE, Case, decide
from gdlayer.report.loaded import Loaded
from gdlayer.trials.record import load_records, recorded_datasets


def sentences(loaded: Loaded) -> list[Sentence]:
    """Claim, finding, reasons."""
    record = Numbers(loaded, "pixel_accuracy")

    def against(other: str, metric: str = record.metric) -> list[Case]:
        cells = {"dataset": loaded.datasets, "split": Table3Trial.splits}
        return record.across("gaussian-unet", other, **cells, metric=[metric])

    printed = [record.paper(net, split="tile") for net in ("gaussian-unet", "unet")]
    small, large = (record.parameters(net) for net in ("gaussian-unet", "unet"))
    accuracy, dice, f1 = (against("unet", metric) for metric in ("pixel_accuracy", "dice", "nucleus_f1"))
    same_size, normalised = against("unet-small"), against("unet-bn")
    cells = [{"dataset": dataset, "split": split} for dataset in loaded.datasets for split in Table3Trial.splits]
    background = [record.mean("unet", metric="background_accuracy", **cell) for cell in cells]
    sought, steps = (_steps(loaded, name) for name in ("table3-search", "table3"))
    return [
        Sentence(
            f"The paper reports {printed[0]:.1f} % of pixels right for its Gaussian U-net and {printed[1]:.1f} % for a"
            f" classical one of about four times the parameters, {small:,} and {large:,}.",
            0 < printed[1] - printed[0] < 0.5 and 3.5 < large / small < 4.5,
        ),
        Sentence(
            "We find no loss, rather a gain: on a resolution-degraded copy of TNBC and on MoNuSeg crops, each split in"
            f" two ways, the small Gaussian net has {_range(accuracy)} points more pixels right, a Dice {_range(dice)}"
            f" points higher and an F1 by nucleus {_range(f1)} points higher; after the correction accuracy is clear in"
            f" {count(accuracy, ABOVE)} of {len(accuracy)} cases, Dice in {count(dice, ABOVE)}, F1 in"
            f" {count(f1, ABOVE)}.",
            loaded.datasets == (TNBC_DERIVED, MONUSEG)
            and min(map(minus, [*accuracy, *dice, *f1])) > 0
            and all(outcome.not_below for outcome in decide(accuracy)),
        ),
        Sentence(
            "It is not that U-net has parameters to spare: against a classical net of the Gaussian one's"
            f" size the lead is {_range(same_size)} points, and against U-net with batch normalisation"
            f" {_range(normalised)}; each is clear by itself, after the correction {count(same_size, ABOVE)} and"
            f" {count(normalised, ABOVE)} of {len(same_size)}.",
            all(all_of([case], ABOVE) for case in (*same_size, *normalised)),
        ),
        Sentence(
            "Pixels hide most of the difference: who calls everything background has"
            f" {between(background, '{:.0f} %'.format)} of them right, and finds no nucleus.",
            min(background) > 50,
        ),
        Sentence(
            "The paper's images are a copy with less detail here, so its accuracies cannot be compared with ours. The"
            f" learning rates were sought in {sought:,} steps, where the nets then train for {steps:,}: whether better"
            " rates narrow the lead is open.",
            sought < steps,
        ),
    ]


def _range(cases: Sequence[Case]) -> str:
    return between(map(minus, cases), points)


def _steps(loaded: Loaded, experiment: str) -> int:
    """Training steps of an experiment or search, by its records."""
    datasets = recorded_datasets(loaded.folder, loaded.profile, experiment)
    records = load_records(loaded.folder, loaded.profile, experiment, datasets)
    return max((record["hyperparameters"]["steps"] for record in records), default=0)
