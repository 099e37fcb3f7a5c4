# SPDX-License-Identifier: Apache-2.0
"""GStreamer's RTSP server as a camera: ``python3 rtsp_server.py FILE PORT [USER PASSWORD basic|digest]``.

For the Python that the system's GStreamer belongs to; serves ``rtsp://127.0.0.1:<port>/stream`` and prints the port.
Port 0 takes any that is free. FILE is Matroska with H.264, or H.265 where its name ends with ``.hevc.mkv``.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402 - versions have to be named first


def protect(server, factory, user, password, method):
    """Let in nobody but ``user``."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    if method == "digest":
        from gi.repository import GstRtsp

        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", permission, True)
    factory.set_permissions(permissions)


def main(path, port, *login):
    """Serve until killed."""
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    kind = "h265" if path.endswith(".hevc.mkv") else "h264"
    factory.set_launch(f'( filesrc location="{path}" ! matroskademux ! {kind}parse ! rtp{kind}pay name=pay0 pt=96 )')
    factory.set_shared(
        False
    )  # one that is shared refuses, or stalls, whom it meets while it starts or ends for another
    if login:
        protect(server, factory, *login)
    server.get_mount_points().add_factory("/stream", factory)
    if not server.attach(None):
        sys.exit(f"port {port} is taken")
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main(*sys.argv[1:])
