"""Muon for matrices and convolutions; the other parameters are left to AdamW."""

from __future__ import annotations

from itertools import accumulate

import torch
import torch.distributed as dist
from torch import Tensor


@torch.no_grad()
def orthogonalize(matrix: Tensor, steps: int = 4) -> Tensor:
    """Return roughly the nearest semi-orthogonal matrix, by Newton-Schulz iterations in bfloat16."""
    x = matrix.bfloat16()
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = x.T
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        mix = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, mix, x, beta=3.4445)
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Jordan and others 2024, https://kellerjordan.github.io/posts/muon).

    Convolutions are flattened to matrices. In distributed training, each process orthogonalizes a part of the matrices,
    and the updates are shared.
    """

    def __init__(self, params: list[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update every parameter that has a gradient."""
        rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            ends = list(accumulate(p.numel() for p in used))
            updates = torch.zeros(ends[-1], dtype=torch.bfloat16, device=used[0].device)
            for p, part, end in zip(used, updates.split([p.numel() for p in used]), ends, strict=True):
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                # All numbers are divided equally among the processes; a matrix belongs to the process where it ends.
                if (end - 1) * world // ends[-1] == rank:
                    update = orthogonalize(p.grad.lerp_(buffer, group["momentum"]).flatten(1))
                    part.view_as(update).copy_(update * max(1.0, update.shape[0] / update.shape[1]) ** 0.5)
            if world > 1:
                dist.all_reduce(updates)
            for p, part in zip(used, updates.split([p.numel() for p in used]), strict=True):
                p.add_(part.view_as(p), alpha=-group["lr"])


def split(*modules: torch.nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters for Muon (inner matrices) and for AdamW (outer layers, embeddings, norms, biases)."""
    inner, outer = [], []
    ends = ("conv_in", "conv_out", "embedding", "time_emb_proj")
    for module in modules:
        for name, p in module.named_parameters():
            (outer if p.ndim < 2 or any(e in name for e in ends) else inner).append(p)
    return inner, outer
