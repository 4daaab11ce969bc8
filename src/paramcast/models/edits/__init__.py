"""The forms in which a package changes a layer: one file a form, one line here."""

from paramcast.models.edits.base import Edit, Slot
from paramcast.models.edits.codes import CodesEdit
from paramcast.models.edits.full import FullEdit
from paramcast.models.edits.lowrank import LowRankEdit
from paramcast.models.edits.residual import ResidualEdit

EDITS: dict[str, type[Edit]] = {edit.form: edit for edit in (FullEdit, ResidualEdit, LowRankEdit, CodesEdit)}
FORMS = tuple(EDITS)

__all__ = ["EDITS", "FORMS", "Edit", "Slot"]
