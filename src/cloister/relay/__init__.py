"""The relay: carries, orders, keeps and signs what it cannot read.

`core` holds the rules and knows neither transport nor clock; `store` keeps the rows; `server`, `files`, `admin`
and `app` make a process of them. Nothing here imports what opens a message (an import contract checks it).
"""
