"""The answer to Table 2, written by hand."""

from gdlayer.datasets.cats_dogs import PACK
from gdlayer.report.answers import Numbers, Sentence, all_of, between, minus
from gdlayer.report.claims import BELOW, EQUAL, signed
from gdlayer.report.loaded import Loaded

SMALL = "squeezenet"


def sentences(loaded: Loaded) -> list[Sentence]:
    """Claim, finding, reasons."""
    record = Numbers(loaded, "test_accuracy")
    before, free, layer = (record.paper(row, source=SMALL) for row in ("source", "free-form", "ours-7x7"))
    fitted = record.case("ours-7x7-fitted", "free-form-original", source=SMALL)
    trained_on = record.case("free-form-original", "source", source=SMALL)
    random = record.across("ours-7x7", "source", source=[SMALL]) + record.across("free-form", "source", source=[SMALL])
    return [
        Sentence(
            f"The paper trains a new first layer in a VGG16 that tells {before:.1f} % of cats and dogs right: free"
            f" filters lift it to {free:.1f} %, its own layer to {layer:.1f} %.",
            before < free < layer,
        ),
        Sentence(
            "On a SqueezeNet, and a copy of the pictures reduced to 200 × 200 pixels, we find neither lift: the old"
            f" filters trained on change {signed(minus(trained_on))} points, the layer fitted to them is"
            f" {signed(minus(fitted))} points from that, both equal within 0.5.",
            all_of([fitted], EQUAL) and all_of([trained_on], EQUAL) and loaded.datasets == (PACK,),
        ),
        Sentence(
            "So a first layer that is good as it is cannot show what another one is worth; the paper's own VGG16, whose"
            " input may be what the new layer repairs, is still to be run here.",
            not {"vgg16-average", "vgg16-255-average"} & {*loaded.cells["source"]},
        ),
        Sentence(
            "A first layer from random numbers, in front of a frozen network that expects the old one, ruins it:"
            f" {between(map(minus, random))} points, for the layer and for free filters alike.",
            all_of(random, BELOW),
        ),
    ]
