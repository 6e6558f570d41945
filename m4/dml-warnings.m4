# DML_WARNINGS: the warnings every file is clean of; --enable-werror makes them errors (CI does).
AC_DEFUN([DML_WARNINGS], [
AC_ARG_ENABLE([werror], [AS_HELP_STRING([--enable-werror], [warnings are errors])], [],
    [enable_werror=no])
DML_WARN_CFLAGS="-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith \
-Wwrite-strings -Wundef -Wvla -Wformat=2"
AS_IF([test "x$enable_werror" = xyes], [DML_WARN_CFLAGS="$DML_WARN_CFLAGS -Werror"])
AC_SUBST([DML_WARN_CFLAGS])
])
