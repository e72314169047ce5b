"""wa: a scheduler and campaign tool for WhatsApp that tells the truth about every message."""

__version__ = "0.1.0"
