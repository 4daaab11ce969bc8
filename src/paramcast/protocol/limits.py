"""Limits of the wire format. Both sides check them before they allocate memory."""

from __future__ import annotations

import re

MAX_REQUEST_BYTES = 256 * 1024
MAX_PACKAGE_BYTES = 64 * 1024 * 1024
MAX_REQUEST_HEADER_BYTES = 4 * 1024
MAX_PACKAGE_HEADER_BYTES = 1024 * 1024
MAX_DIMENSIONS = 8
MAX_CLIPS = 256  # a clip's index is sent as one byte
MAX_QUERIES = 2048
QUERIES_A_CLIP = 8  # queries of a clip that are averaged before sending; for devices and in training
MAX_SEQUENCE = 2**53 - 1  # the largest integer that every JSON reader represents exactly
MAX_TIME = 2**53 - 1
MAX_EFFECT_NUMBERS = 64
MAX_EFFECT_BYTES = 4 + 2 * MAX_EFFECT_NUMBERS  # a tag, and 16 bits for each number
MAX_JUMP = 2**20  # largest difference of two consecutive sequence numbers
MAX_NOTICE_BYTES = 4096
MAX_WITHDRAWN = 256  # versions in a notice

DEVICE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}")
MODEL_ID = re.compile(r"[0-9a-f]{64}")
FORM = re.compile(r"[a-z][a-z0-9_+-]{0,31}")  # the names of joined adapters are separated by "+"
TENSOR_NAME = re.compile(r"[A-Za-z0-9_]+([.-][A-Za-z0-9_]+){0,31}")
MAX_TENSOR_NAME = 200
MAX_TENSOR_PARTS = 32  # parts that TENSOR_NAME allows
