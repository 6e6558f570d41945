# DML_FOREIGN_LIBS: every library dml stands on, with a sentence naming its Debian package.
#
# Debian's grpc.pc expands to some 80 abseil flags that nothing here needs, so gRPC's core is
# linked by name; its pkg-config file only tells the version.
AC_DEFUN([DML_NEED_LIB], [
    AC_CHECK_LIB([$1], [$2], [$3="-l$1"],
        [AC_MSG_ERROR([lib$1 is missing: apt install $4])], [$5])
])
AC_DEFUN([DML_FOREIGN_LIBS], [
PKG_PROG_PKG_CONFIG([0.29])
AC_PATH_PROG([PROTOC_C], [protoc-c])
AS_IF([test "x$PROTOC_C" = x], [AC_MSG_ERROR([protoc-c is missing: apt install protobuf-c-compiler])])
grpc_version=$($PKG_CONFIG --modversion grpc 2>/dev/null || echo unknown)
protobuf_c_version=$($PKG_CONFIG --modversion libprotobuf-c 2>/dev/null || echo unknown)

AC_CHECK_HEADER([grpc/grpc.h], [], [AC_MSG_ERROR([grpc/grpc.h is missing: apt install libgrpc-dev])])
DML_NEED_LIB([gpr], [gpr_free], [GPR_LIBS], [libgrpc-dev])
DML_NEED_LIB([grpc], [grpc_init], [GRPC_CORE_LIBS], [libgrpc-dev], [-lgpr])
GRPC_LIBS="$GRPC_CORE_LIBS $GPR_LIBS"
AC_SUBST([GRPC_LIBS])
PKG_CHECK_MODULES([PROTOBUF_C], [libprotobuf-c >= 1.3])
PKG_CHECK_MODULES([OPENBLAS], [openblas])
PKG_CHECK_MODULES([SYSTEMD], [libsystemd >= 247])
PKG_CHECK_MODULES([ZLIB], [zlib])
PKG_CHECK_MODULES([CRYPTO], [libcrypto >= 1.1])
PKG_CHECK_MODULES([JANSSON], [jansson >= 2.13])
])
