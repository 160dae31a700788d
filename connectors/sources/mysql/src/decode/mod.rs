//! Values of rows, into Arrow.
