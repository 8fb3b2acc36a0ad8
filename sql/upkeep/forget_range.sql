-- forget_range: remove the rows of other tables on jobs with ids from $1 to before $2.

select pgqueue.forget_range($1, $2)
