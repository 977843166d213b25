"""Uploads a finished run's folder to the Hub, without checkpoints; the token is the Hub library's own (login or HF_TOKEN).

Done by huggingface_hub rather than by the Trainer, whose upload writes a pickled training_args.bin and replaces the card.
"""

from __future__ import annotations

from pathlib import Path

from sftgo_cli.errors import EnvironmentProblem
from sftgo_cli.recipe.training_section import TrainingSection

LEFT_OUT = ["checkpoint-*", ".*", "*/.*", "environment.json"]


def upload_run(folder: Path, section: TrainingSection) -> None:
    """Create the repository where it is missing and upload the run's files in one commit.

    Raises:
        EnvironmentProblem: the Hub cannot be reached or refuses; the run itself is finished and stays.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api = HfApi()
    name = section.hub_model_id or folder.name
    try:
        repository = api.create_repo(name, private=section.hub_private_repo, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=folder,
            ignore_patterns=LEFT_OUT,
            commit_message="Upload of a finished sftgo run",
        )
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise EnvironmentProblem(
            f"the run is finished, but the upload failed: {reason}",
            f"training.hub_model_id: {name}",
            f"check `hf auth whoami`, then `hf upload {name} {folder}`",
        ) from error
