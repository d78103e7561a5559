"""demjax: zero-shot learning in JAX. Queries and a gallery meet in one space; the nearest item is the answer.

Axis letters, the same in every shape annotation and docstring:

    b  batch            q  queries          g  gallery (classes, captions ...)
    c  classes          n  images           d  width of the space searched (usually visual features)
    a  attributes or any other semantic width                 h  hidden units
    k  neighbours       t  time             m  vectors per query

Rooms, from the ground up; imports only go down (tests/floors_test.py):

    0  mesh, checks, progress               devices; errors a person can act on; how far it is
    1  models, losses, search, metrics      pure functions on arrays
       distributed                          several processes as one program
       user_code                            objects from a user's own Python file
    2  hubness                              statistics of neighbours, and corrections that are fitted by searching
    3  data                                 the outside world becomes checked arrays
    4  protocols                            how systems are judged: metrics, columns, objectives, pictures
    5  tasks                                one readable file per paper
    6  train                                runs any task under any protocol, names none
    7  cli                                  the commands; main, tables, encode: older names of them
"""

__version__ = "0.1.0"
