# DML_BUILD_MODES: --enable-sanitizers, --enable-fuzzer, --enable-gcov.
AC_DEFUN([DML_BUILD_MODES], [
AC_ARG_ENABLE([sanitizers],
    [AS_HELP_STRING([--enable-sanitizers], [AddressSanitizer and UndefinedBehaviorSanitizer])], [],
    [enable_sanitizers=no])
AC_ARG_ENABLE([fuzzer],
    [AS_HELP_STRING([--enable-fuzzer], [fuzz targets linked with libFuzzer (clang)])], [],
    [enable_fuzzer=no])
AC_ARG_ENABLE([gcov], [AS_HELP_STRING([--enable-gcov], [coverage counters])], [], [enable_gcov=no])

DML_MODE_CFLAGS=
DML_FUZZ_LDFLAGS=
AS_IF([test "x$enable_fuzzer" = xyes], [
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [
#ifndef __clang__
#error not clang
#endif
    ])], [], [AC_MSG_ERROR([--enable-fuzzer needs clang: ./configure CC=clang --enable-fuzzer])])
    enable_sanitizers=yes
    DML_MODE_CFLAGS="$DML_MODE_CFLAGS -fsanitize=fuzzer-no-link"
    DML_FUZZ_LDFLAGS="-fsanitize=fuzzer"])
AS_IF([test "x$enable_sanitizers" = xyes],
    [DML_MODE_CFLAGS="$DML_MODE_CFLAGS -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g"])
AS_IF([test "x$enable_gcov" = xyes], [DML_MODE_CFLAGS="$DML_MODE_CFLAGS --coverage -O0 -g"])
AC_SUBST([DML_MODE_CFLAGS])
AC_SUBST([DML_FUZZ_LDFLAGS])
AM_CONDITIONAL([ENABLE_FUZZER], [test "x$enable_fuzzer" = xyes])
AM_CONDITIONAL([ENABLE_SANITIZERS], [test "x$enable_sanitizers" = xyes])
])
