"""Model families and how checkpoints are loaded.

A family is one file: where its modules are and how vision patches become tokens. It holds no
pruning code. Tiny trained checkpoints for offline use lie in ``models/tiny``.
"""

from __future__ import annotations

if __name__ != "unibench.models":  # a second name would make a second copy of every class
    raise ImportError("import unibench.models, not models")

from unibench._compat import repair_torchvision

repair_torchvision()  # before anything here imports transformers

from unibench.models._loading import LoadedModel as LoadedModel
from unibench.models._loading import Piece as Piece
from unibench.models._loading import family_of as family_of
from unibench.models._loading import load as load
from unibench.models._loading import wrap as wrap
from unibench.models._origin import cached_processor as cached_processor
from unibench.models._origin import card_clip as card_clip
from unibench.models._origin import whole_model as whole_model
from unibench.models._sources import processor_of as processor_of
from unibench.models._videos import Clip as Clip
from unibench.models._weightless import folder_of as folder_of
from unibench.models._weightless import opened as opened
from unibench.models._words import control_word_in as control_word_in
from unibench.models._words import control_words as control_words
from unibench.models._words import reads_as_its_own as reads_as_its_own
