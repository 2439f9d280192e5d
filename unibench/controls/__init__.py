"""What a pruning result must be compared with: the same question asked of less, without a method.

A control changes the picture, or takes it away, before the processor sees it; the model then runs
as it is. It stands in the place of a method in a cell (``control=resize ratio=0.889``), so its row
stands beside the methods' rows in every table.

:mod:`unibench.controls.prompts` changes the prompts; it is not imported here, since tables read
groups and need no torch.
"""

from __future__ import annotations

from unibench.controls.groups import Groups as Groups
from unibench.controls.groups import groups_of as groups_of
