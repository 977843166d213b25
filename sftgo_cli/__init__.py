"""sftgo fine-tunes causal language models while treating tokens by their importance.

Nothing is imported here: `sftgo --help` must answer before torch could even be found on the disk.
"""

__version__ = "0.1.0"
