"""One readable file per paper, and the register of their names."""

from demjax.tasks.register import TASKS as TASKS
from demjax.tasks.register import find_task as find_task
from demjax.tasks.register import make_task as make_task
from demjax.tasks.register import settings_of as settings_of
from demjax.tasks.task import Groups as Groups
from demjax.tasks.task import Task as Task
from demjax.tasks.task import Variables as Variables
