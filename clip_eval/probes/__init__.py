"""Inputs of a subject: batches of ids and pixels, images, texts, and malformed inputs."""

from __future__ import annotations
