//! Change data capture from databases into files and warehouses, in one binary.
