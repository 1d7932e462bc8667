"""How the figures of a chapter are drawn."""

from gdlayer._plumbing.extras import extra

with extra("report"):
    import matplotlib.pyplot as plt


def as_svg() -> None:
    """Has a notebook draw its figures as SVG, which can be saved from its page: the same bytes at every execution."""
    from matplotlib_inline.backend_inline import set_matplotlib_formats  # every notebook kernel has it

    plt.rcParams["svg.hashsalt"] = "gdlayer"
    set_matplotlib_formats("svg", metadata={"Date": None, "Creator": None})
