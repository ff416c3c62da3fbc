"""Items of evaluations in documents: ``contamination`` is the stage, ``styles`` the recipes."""
