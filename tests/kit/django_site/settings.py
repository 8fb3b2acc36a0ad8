"""The settings of the project: its database is in PGQUEUE_TEST_DSN."""

from __future__ import annotations

import importlib.util
import os

from psycopg.conninfo import conninfo_to_dict

_parts = conninfo_to_dict(os.environ["PGQUEUE_TEST_DSN"])

SECRET_KEY = "tests"  # a project has to have one
USE_TZ = os.environ.get("PGQUEUE_TEST_USE_TZ", "1") == "1"
TIME_ZONE = "Europe/Vienna"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # slow ones take seconds here
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "kit.django_site.urls"
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": _parts["dbname"],
        "USER": _parts.get("user", ""),
        "PASSWORD": _parts.get("password", ""),
        "HOST": _parts.get("host", ""),
        "PORT": _parts.get("port", ""),
        "OPTIONS": {"application_name": "it's a shop"},
    },
    "elsewhere": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "kit.django_site.shop",
    "pgqueue.integrations.django",
]
if importlib.util.find_spec("django_tasks") is not None:
    INSTALLED_APPS.append("django_tasks")
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
TASKS = {
    "default": {
        "BACKEND": "pgqueue.integrations.django.PgQueueBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"dashboard": "/queue/"},
    },
    "any": {"BACKEND": "pgqueue.integrations.django.PgQueueBackend", "QUEUES": []},
}
