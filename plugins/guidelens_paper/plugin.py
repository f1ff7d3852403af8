"""Register the claims of the paper, and the study ``paper``."""

from __future__ import annotations

from pathlib import Path

from guidelens.hookspecs import RegisterClaims, RegisterStudies, hookimpl


@hookimpl
def register_claims(register: RegisterClaims) -> None:
    """Offer F1 to F6."""
    from .claims import CLAIMS

    for claim in CLAIMS:
        register(claim)


@hookimpl
def register_studies(register: RegisterStudies) -> None:
    """Name the study that asks the paper's questions about the paper's models."""
    path = Path(__file__).parent / "studies" / "paper.toml"
    register(
        "paper", path, summary="the paper's claims with guided-diffusion and BLIP: needs weights and a GPU"
    )
