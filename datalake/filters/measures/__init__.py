"""Text to numbers, in compiled passes over the bytes of Arrow batches.

``signals`` says what each number means; ``characters`` what a character is; ``scan_kernels``,
``repetition_kernels``, ``line_kernels`` and ``code_kernels`` count.
"""
