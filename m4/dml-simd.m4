# DML_SIMD: may the hot loops also be built for newer x86-64 processors?
#
# nn/kernel_loops.c is compiled once per level and chosen at run time (nn/kernel.c). Arm64 has NEON
# in its baseline and needs no second build.
AC_DEFUN([DML_SIMD], [
DML_V3_CFLAGS="-mavx2 -mfma"
DML_V4_CFLAGS="-mavx512f -mavx512vl -mavx512dq -mavx512bw -mavx2 -mfma -mprefer-vector-width=512"
AC_CACHE_CHECK([whether $CC builds for x86-64 with AVX2 and AVX-512], [dml_cv_x86_levels], [
    dml_save_CFLAGS=$CFLAGS
    CFLAGS="$CFLAGS $DML_V4_CFLAGS"
    AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[
#if !defined(__x86_64__) || !defined(__AVX512F__)
#error not an x86-64 with vector levels
#endif
]], [[return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx2");]])],
        [dml_cv_x86_levels=yes], [dml_cv_x86_levels=no])
    CFLAGS=$dml_save_CFLAGS])
AC_SUBST([DML_V3_CFLAGS])
AC_SUBST([DML_V4_CFLAGS])
AM_CONDITIONAL([X86_LEVELS], [test "x$dml_cv_x86_levels" = xyes])
])
