#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# See that the extension can be compiled for a Python: its C headers are needed.
#
#     tools/python_headers.sh PYTHON FOLDER
#
# Prints the CMake argument that a build then needs: nothing where the headers are installed. Where
# they are not, and this is Debian's or Ubuntu's own Python, fetches the package that holds them
# into FOLDER; that takes no root and changes nothing outside FOLDER. Fails if neither works.
set -eu

python=$1
folder=$2
# In a virtual environment this is the folder of the Python under it.
include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
[ ! -e "$include/Python.h" ] || exit 0

give_up() {
    {
        echo "$include/Python.h is missing, and $1."
        echo "Install the C headers of this Python (Debian, Ubuntu: python3-dev; Fedora:" \
            "python3-devel) or choose one that has them: make PYTHON=..."
    } >&2
    exit 1
}

name=$(basename "$include") # python3.11
[ "$include" = "/usr/include/$name" ] || give_up "this Python is not the system's"
for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || give_up "there is no $tool to fetch it with"
done

rm -rf "$folder"
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
work=$folder/work
mkdir -p "$work/archives/partial" "$work/state/lists/partial"
trap 'rm -rf "$work"' EXIT

# As root apt would become its own user, who need not be able to write here.
apt() { apt-get -qq -o APT::Sandbox::User=root -o Debug::NoLocking=1 -o Dir::Cache="$work" "$@"; }
download() { (cd "$work" && apt "$@" download "lib$name-dev"); }

echo "no $include/Python.h: fetching lib$name-dev into $folder" >&2
# The system's package lists may be missing or older than the archive: then with lists of our own.
if ! download >/dev/null 2>&1; then
    set -- -o Dir::State="$work/state" -o Dir::State::lists="$work/state/lists"
    apt "$@" update >&2 || true # a source that does not answer may not be the one needed
    download "$@" >&2 || give_up "lib$name-dev could not be downloaded"
fi

dpkg-deb -x "$work/lib$name-dev"_*.deb "$work/root" || give_up "lib$name-dev could not be unpacked"
[ -e "$work/root$include/Python.h" ] || give_up "lib$name-dev does not hold it"
mv "$work/root$include" "$folder/$name"
# The pyconfig.h in there only includes the one of this architecture, by a path below /usr/include.
for config in "$work/root/usr/include"/*/"$name/pyconfig.h"; do
    [ ! -e "$config" ] || cp "$config" "$folder/$name/"
done
echo "'-DPython_INCLUDE_DIR=$folder/$name'"
