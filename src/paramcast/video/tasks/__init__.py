"""The tasks: one file a task, one line here."""

from paramcast.errors import InputError
from paramcast.video.tasks.base import Task
from paramcast.video.tasks.choice import MultipleChoice
from paramcast.video.tasks.qa import QuestionAnswering
from paramcast.video.tasks.retrieval import Retrieval

TASKS: dict[str, type[Task]] = {task.name: task for task in (QuestionAnswering, MultipleChoice, Retrieval)}


def make_task(name: str) -> Task:
    """Return the task with this name.

    Raises:
        InputError: There is no such task.
    """
    if name not in TASKS:
        raise InputError(f"no task is called {name!r}; there are: {', '.join(TASKS)}")
    return TASKS[name]()


__all__ = ["TASKS", "Task", "make_task"]
