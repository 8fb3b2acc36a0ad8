"""Runs what scenes.py has, and prints what each came to: null, or the traceback of its failure.

Of scenes that are named as arguments, only those.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "kit.django_site.settings")
django.setup()

from django.core.management import call_command  # noqa: E402  # settings first

from kit.django_site import scenes  # noqa: E402

call_command("migrate", run_syncdb=True, verbosity=0)
outcomes: dict[str, str | None] = {}
for name, scene in vars(scenes).items():
    is_chosen = not sys.argv[1:] or name in sys.argv[1:]
    if name.startswith("test_") and inspect.isfunction(scene) and is_chosen:
        try:
            scene()
        except BaseException:
            outcomes[name] = traceback.format_exc()
        else:
            outcomes[name] = None
# Behind what else was printed.
sys.stdout.write(f"\n{json.dumps(outcomes)}\n")
