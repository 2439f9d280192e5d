"""Methods, families and tasks by name: each declares itself once, in its class.

A part is imported and asked; what it says is a card (:mod:`unibench.registry.cards`), and cards
are kept in a cache under the digest of the source they were made from. So listing, checking and
planning need no torch, except for the first time after an edit.

A method is ``methods/<name>.py`` with one dataclass; a family is ``models/<name>.py`` with one
subclass of ``Family``. Files whose names start with an underscore are private. Packages offer
methods under the entry point ``unibench.methods``; a file is named ``path/to/file.py:Class``. An
embedded task is a module or package of ``tasks`` with a class of its name, or a file so named.
"""

from __future__ import annotations

from unibench import paths
from unibench.registry.cards import REQUIRED as REQUIRED
from unibench.registry.cards import Card as Card
from unibench.registry.cards import TaskCard as TaskCard
from unibench.registry.lookup import build_method as build_method
from unibench.registry.lookup import build_task as build_task
from unibench.registry.lookup import category as category
from unibench.registry.lookup import core_digest as core_digest
from unibench.registry.lookup import families as families
from unibench.registry.lookup import family_of as family_of
from unibench.registry.lookup import method as method
from unibench.registry.lookup import methods as methods
from unibench.registry.lookup import parts_of as parts_of
from unibench.registry.lookup import serving as serving
from unibench.registry.lookup import submethod_node as submethod_node
from unibench.registry.lookup import task as task
from unibench.registry.lookup import tasks as tasks
from unibench.registry.lookup import tasks_digest as tasks_digest
from unibench.registry.lookup import wrapper_of as wrapper_of

ROOT = paths.PACKAGE
