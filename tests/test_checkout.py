import subprocess

from homodyne.checkout import UNKNOWN, commit


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_commit_and_changes_of_a_checkout(tmp_path):
    package = tmp_path / "homodyne"
    package.mkdir()
    assert commit(package) == UNKNOWN
    (package / "a.py").write_text("1")
    git(tmp_path, "init")
    assert commit(package) == UNKNOWN  # no commit yet
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    git(tmp_path, "tag", "v1")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(package) == head
    (package / "a.py").write_text("2")
    assert commit(package) == f"{head}-dirty"


def test_a_package_inside_another_repository_has_no_commit(tmp_path):
    git(tmp_path, "init")
    package = tmp_path / ".venv" / "site-packages" / "homodyne"
    package.mkdir(parents=True)
    assert commit(package) == UNKNOWN


def test_without_git(tmp_path, monkeypatch):
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit(tmp_path / "homodyne") == UNKNOWN
