"""The claims of Kong & Kwak (2023) as questions to studies, and the study that asks them of the paper's models."""
