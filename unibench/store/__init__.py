"""Results on disk: one folder per cell, samples appended as they are answered, any number of
writers.
"""

from __future__ import annotations

from unibench.store.archive import Merged as Merged
from unibench.store.archive import export as export
from unibench.store.archive import import_ as import_
from unibench.store.archive import merge as merge
from unibench.store.cards import Judged as Judged
from unibench.store.cards import judged as judged
from unibench.store.claim import Claim as Claim
from unibench.store.claim import Watch as Watch
from unibench.store.claim import acquire as acquire
from unibench.store.claim import holder as holder
from unibench.store.contents import Entry as Entry
from unibench.store.contents import entries as entries
from unibench.store.contents import index as index
from unibench.store.contents import prune as prune
from unibench.store.files import DiskError as DiskError
from unibench.store.folder import CellFolder as CellFolder
from unibench.store.folder import DamagedError as DamagedError
from unibench.store.folder import read_samples as read_samples
from unibench.store.folder import sealed_scores as sealed_scores
from unibench.store.index import cells_below as cells_below
from unibench.store.part import ClaimedPart as ClaimedPart
from unibench.store.part import claim_part as claim_part
from unibench.store.repair import Problem as Problem
from unibench.store.repair import repair as repair
from unibench.store.repair import verify as verify
from unibench.store.unpack import MAX_SIZE as MAX_SIZE
