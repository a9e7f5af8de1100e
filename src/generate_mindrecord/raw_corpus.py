"""Records of pre-training from plain text."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from src.generate_mindrecord.corpus import find_input_files
from src.generate_mindrecord.generate_pretrain_mindrecord import generate
from src.generate_mindrecord.pretrain_instances import InstanceOptions
from src.generate_mindrecord.raw_data import Maker
from src.records.cache import fingerprint
from src.records.writer import EXTENSIONS


class CorpusMaker(Maker):
    """See `Maker`. What the configuration does not say is as the generator has it; evaluation sees a text once."""

    def plan(self, path: Path, option: str, is_training: bool) -> tuple[Mapping[str, Any], Callable[[Path], None]]:
        """See `Maker.plan`."""
        config, length = self.config, self.max_seq_length
        duplicates = InstanceOptions.dupe_factor if is_training else 1
        options = InstanceOptions(max_seq_length=length, dupe_factor=duplicates, do_lower_case=config.do_lower_case)

        def write(folder: Path) -> None:
            name = "train" if is_training else "dev"
            generate(options, str(path), str(folder / f"{name}.{EXTENSIONS[config.dataset_format]}"), self.vocab_file,
                     config.dataset_format)

        files = find_input_files(str(path))
        return {"source": [fingerprint(file) for file in files], "options": vars(options)}, write
