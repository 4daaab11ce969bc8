"""The forms in which a package changes a layer: one file a form, one line here."""

from paramcast.adapters.edits.base import Edit, Slot
from paramcast.adapters.edits.codes import CodesEdit
from paramcast.adapters.edits.full import FullEdit
from paramcast.adapters.edits.lowrank import LowRankEdit
from paramcast.adapters.edits.residual import ResidualEdit

EDITS: dict[str, type[Edit]] = {edit.form: edit for edit in (FullEdit, ResidualEdit, LowRankEdit, CodesEdit)}
FORMS = tuple(EDITS)

__all__ = ["EDITS", "FORMS", "Edit", "Slot"]
