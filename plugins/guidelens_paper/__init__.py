"""The claims of Kong & Kwak (2023) as questions about studies, and the study that asks them about the paper's
models."""
