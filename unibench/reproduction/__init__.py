"""A paper's table with our numbers beside the printed ones, under the paper's settings and ours."""

from __future__ import annotations

from unibench.reproduction.base import Base as Base
from unibench.reproduction.base import bases as bases
from unibench.reproduction.numbers import Number as Number
from unibench.reproduction.numbers import numbers as numbers
from unibench.reproduction.settings import Difference as Difference
from unibench.reproduction.settings import differences as differences
from unibench.reproduction.settings import factors as factors
from unibench.reproduction.settings import of_unibench as of_unibench
from unibench.reproduction.settings import with_factor as with_factor
