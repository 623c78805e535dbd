"""Lists of images: CSV, Parquet and JSON, as spreadsheets, pandas and data sets write them."""
