"""One readable file per paper, and the register of their names."""

from demjax.tasks import dem
from demjax.tasks.task import Task as Task

TASKS = {"dem": dem.dem}
