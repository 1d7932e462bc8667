"""Batch normalisation folded into the convolution before it."""

from collections import Counter
from typing import TypeGuard, cast

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from gdlayer.synthesis import SynthesizedConv2d

Normalisation = nn.BatchNorm2d | nn.SyncBatchNorm


def foldable(model: nn.Module) -> list[tuple[nn.Module, Normalisation]]:
    """Each convolution of ``model`` with the batch normalisation that follows it and has running statistics.

    Both are called once, nothing else reads the output of the convolution, and nothing but the two their parameters.

    Raises
    ------
    ValueError
        If torch.fx cannot trace the model, or such a normalisation is in training mode.
    """
    try:
        graph = fx.Tracer().trace(model)
    except Exception as error:
        raise ValueError(
            f"fold_batch_norm must be False where torch.fx cannot trace the model, got {type(model).__name__}: "
            f"{error}. Deploy it without, then fold by torch.nn.utils.fusion.fuse_conv_bn_eval"
        ) from error
    called = {node: model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"}
    uses = Counter(called.values())
    for node in graph.nodes:
        if node.op == "get_attr":  # the parameter of a module, in no call of it
            uses[model.get_submodule(str(node.target).rpartition(".")[0])] += 1
    pairs = []
    for node, norm in called.items():
        source = node.args[0] if node.args else None
        conv = called.get(source) if isinstance(source, fx.Node) and len(source.users) == 1 else None
        if type(conv) is not nn.Conv2d and not isinstance(conv, SynthesizedConv2d):
            continue
        if not _folds(norm) or uses[norm] > 1 or uses[conv] > 1:
            continue
        if norm.training:
            raise ValueError(f"fold_batch_norm must be False for a model in training mode, got {node.target} in it")
        pairs.append((conv, norm))
    return pairs


def _folds(module: nn.Module) -> TypeGuard[Normalisation]:
    """Whether it normalises by running statistics; not if it is of another class, which may compute something else."""
    return type(module) in (nn.BatchNorm2d, nn.SyncBatchNorm) and module.running_mean is not None


def folded(plain: nn.Module, norm: Normalisation) -> nn.Module:
    """A convolution as a layer is deployed, followed by ``norm``, as one such module; ``plain`` may be changed."""
    if isinstance(plain, nn.Sequential):
        plain[-1] = folded(plain[-1], norm)
        return plain
    training = plain.training
    return fuse_conv_bn_eval(cast(nn.Conv2d, plain.eval()), norm).train(training)
