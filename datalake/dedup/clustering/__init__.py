"""From equal keys to edges, components and one survivor of each: ``clusters`` is the stage."""
